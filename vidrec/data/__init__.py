"""From video files to clips: records on disk, their index, the frames of a clip, the host's share of a batch.

Bottom up: `images` and `video` decode and encode; `example` and `tfrecord` are the wire formats, `schema` what a
record holds; `index` knows where every frame lies; `records` reads just those frames; `datasets`, `convert` and
`verify` make and check folders of records; `toy` draws videos to try all this on.
"""
