"""Reading a compiled module's text: lines as the TPU's compiler writes them, shortened."""

import pytest

from vidrec.launch import hlo

PLAIN = """HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add.1 = f32[] add(%a, %b)
}

ENTRY %main.1_spmd (p0: f32[64]) -> f32[64] {
  %all-reduce.2 = (f32[1,64]{1,0:T(1,128)}, f32[1,64]{1,0:T(1,128)}) all-reduce(%x, %y), channel_id=3, AXES, MADE
  %all-reduce.3 = f32[2048]{0:T(256)} all-reduce(%z), channel_id=4, replica_groups=mesh['data'=8] {'data':(2)4}
  %all-gather.1 = bf16[512,8]{1,0} all-gather(%w), channel_id=5, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %fusion.3 = bf16[32,8]{1,0} fusion(%fusion.17), kind=kCustom, calls=%all-reduce-scatter.3
  %permute = (bf16[4,8], bf16[4,8], u32[]{:S(2)}) collective-permute-start(%v), source_target_pairs={{0,1}}
  %done = bf16[4,8]{1,0} collective-permute-done(%permute)
  %alone = f32[4]{0} all-reduce(%q), channel_id=9, replica_groups={{0},{1}}, to_apply=%sum
  %vidrec_match_forward.1.ref = f32[28,8]{1,0} custom-call(%a, %b), custom_call_target="tpu_custom_call", metadata={}
  %vidrec_match_forward.2.ref = f32[28,8]{1,0} custom-call(%a, %b), custom_call_target="tpu_custom_call", metadata={}
  %buffer = f32[4]{0} custom-call(), custom_call_target="AllocateBuffer"
}

%all-reduce-scatter.3 (input: bf16[128,8]) -> bf16[32,8] {
  %all-reduce.13 = bf16[128,8]{1,0} all-reduce(%pad.1), channel_id=15, replica_groups=[2,4]<=[8], to_apply=%sum
  ROOT %slice = bf16[32,8]{1,0} dynamic-slice(%all-reduce.13, %i, %c)
}
""".replace("AXES", "replica_groups=mesh['data'=8] {'data'}").replace(
    "MADE", 'metadata={op_name="jit(step)/bn1/reduce_sum"}'
)

LOOP = """HloModule jit_step

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %all-reduce.1 = f32[8]{0} all-reduce(%g), channel_id=1, replica_groups={}, to_apply=%sum
}

%condition (p: (s32[], f32[8])) -> pred[] {
  %constant.2 = s32[]{:T(128)} constant(5)
  ROOT %lt.6 = pred[] compare(%i, %constant.2), direction=LT
}

ENTRY %main (p0: f32[8]) -> f32[8] {
  %while.22 = (s32[], f32[8]) while(%tuple.23), condition=%condition, body=%body
  %started = f32[8] fusion(%a), calls=%fused_computation.1
  %ended = f32[8] fusion(%a), calls=%fused_computation.2
}

%fused_computation.1 (p: f32[8]) -> f32[32] {
  %all-gather.1 = f32[32]{0} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}
}

%fused_computation.2 (p: f32[8]) -> f32[32] {
  %all-gather.2 = f32[32]{0} all-gather(%p), channel_id=7, replica_groups={{0,1,2,3}}, dimensions={0}
}

%never (p: f32[8]) -> f32[8] {
  %all-reduce.9 = f32[8]{0} all-reduce(%p), channel_id=8, replica_groups={{0,1,2,3}}, to_apply=%sum
}
"""


def test_collectives_with_their_bytes_and_groups():
    found = {(one.kind, one.bytes, one.group): one for one in hlo.collectives(PLAIN, 8)}
    assert set(found) == {
        ("all-reduce", 2 * 64 * 4, 8),
        ("all-reduce", 2048 * 4, 4),
        ("all-gather", 512 * 8 * 2, 4),
        ("reduce-scatter", 128 * 8 * 2, 4),  # a fusion of the compiler's
        ("collective-permute", 4 * 8 * 2, 2),  # of a started one, the result alone; its end is no other
    }
    assert found["all-reduce", 512, 8].name == "jit(step)/bn1/reduce_sum"
    assert all(one.times == 1 for one in found.values())


def test_bytes_on_the_wire_are_those_of_a_ring():
    sent = {kind: hlo.Collective(kind, 1000, 4, 2, "").wire_bytes for kind in hlo.KINDS}
    assert sent == {
        "all-reduce": 3000, "reduce-scatter": 1500, "all-gather": 1500, "all-to-all": 1500, "collective-permute": 2000,
    }  # fmt: skip


def test_loops_count_and_what_is_overlapped_counts_once():
    reduced, gathered = sorted(hlo.collectives(LOOP, 4), key=lambda one: one.kind, reverse=True)[::-1]
    assert (gathered.kind, gathered.times, gathered.group) == ("all-reduce", 5, 4)
    assert (reduced.kind, reduced.times, reduced.bytes) == ("all-gather", 1, 128)


def test_kernels_are_the_custom_calls_of_libraries():
    assert hlo.kernels(PLAIN) == {"vidrec_match_forward": 2}


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", 2),
        ("replica_groups=[4,2]<=[8]", 2),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", 4),
        ("replica_groups={}", 8),
        ("replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}", 4),
        ("replica_groups=mesh['data'=2,'fsdp'=4] {'data','fsdp'}", 8),
        ("replica_groups=mesh['data'=8] {'data':(4)2}", 2),
        ("source_target_pairs={{0,1},{1,0}}", 2),
    ],
)
def test_sizes_of_groups(groups, size):
    assert hlo.group_size(f"%a = f32[8] all-reduce(%b), {groups}, to_apply=%sum", 8) == size
