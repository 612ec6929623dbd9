"""The table of peers: what is tried where, without any of the libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cllm.harness.bench.task import Kind
from cllm.harness.peers import PEERS, SMALL_STEP, Peer


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.library)
@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("flops", [1, int(SMALL_STEP)])
def test_competitors_are_told_apart(peer: Peer, kind: Kind, flops: int) -> None:
    found = [*peer.competitors(kind, 2, flops)]
    assert found or (peer.library, kind) == ("PyTorch", Kind.STEPS)
    assert len({str(each) for each in found}) == len(found)
    assert {each.threads for each in found} <= ({1, 2} if flops < SMALL_STEP else {2})
    for each in found:
        assert str(each.threads) in each.environment.values()
        assert not any("{" in value for value in each.environment.values())


def test_one_core_is_tried_once() -> None:
    for peer in PEERS:
        found = [*map(str, peer.competitors(Kind.GREEDY, 1, 1))]
        assert len(set(found)) == len(found)


def test_a_library_that_is_not_there_is_known_without_an_import() -> None:
    assert not Peer("Absent", "there_is_no_such_library", "", (), {}).is_installed()
    code = (
        "import sys; from cllm.harness.peers import PEERS; import cllm.harness.bench.run;"
        "[peer.is_installed() for peer in PEERS]; print({'torch', 'jax'} & {*sys.modules})"
    )
    command = [sys.executable, "-P", "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "set()\n"
