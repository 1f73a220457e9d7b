"""How a video file ends that does not say how long it is: after a whole element, box or packet, or within one."""

from pathlib import Path

# (bytes of a packet, bytes of it before the sync byte): MPEG-TS; with time stamps, as cameras write it; with checksums.
_PACKETS = ((188, 0), (192, 4), (204, 0))
_SYNC = 0x47
_LOOKED_AT = 204 * 8


def is_cut_off(path: Path, container: str) -> bool:
    """Whether a file certainly lacks its end.

    Of a file that ends between two frames nothing can be said; it is False, as for containers other than these.

    Args:
      container: FFmpeg's name of it.
    """
    if "matroska" in container:
        return _ends_within_element(path)
    if "mp4" in container:
        return _ends_within_box(path)
    return container == "mpegts" and _ends_within_packet(path)


def _ends_within_element(path: Path) -> bool:
    """Whether the last element of a Matroska file is longer than what there is of it.

    An element is an identity, a length, and that many bytes; both numbers begin with as many zero bits as they have
    further bytes. Those of unknown length, which live files are made of, are entered.
    """
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(12)
            identity = 9 - head[0].bit_length()
            if identity > 4:
                return False  # no element; what it is cannot be told
            if len(head) <= identity:
                return True
            digits = 9 - head[identity].bit_length()
            if digits > 8:
                return False
            if len(head) < identity + digits:
                return True
            mask = (1 << 7 * digits) - 1
            length = int.from_bytes(head[identity : identity + digits]) & mask
            at += identity + digits + (0 if length == mask else length)
    return at > size


def _ends_within_box(path: Path) -> bool:
    """Whether the last box of an MP4 file is longer than what there is of it.

    A box begins with its length in 4 bytes; where that is 1, it stands behind the box's name in 8.
    """
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4])
            if length == 1:
                length = int.from_bytes(head[8:])
            if length < 8:
                return False  # up to the end, or no box
            at += length
    return at > size


def _ends_within_packet(path: Path) -> bool:
    """Whether the bytes from the first packet of an MPEG-TS file to its end are no whole number of packets."""
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
    for length, before in _PACKETS:
        for sync in range(length):
            if set(head[sync::length]) == {_SYNC}:
                return (path.stat().st_size - sync + before) % length != 0
    return False
