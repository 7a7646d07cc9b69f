"""Which way a batch is written: straight, but for a while after a repeat."""

from collector.store.batch import Path
from collector.store.write import MOST_STAGED, DirectCopyBackoff


def staged_after(turn: DirectCopyBackoff, *, conflicts: int) -> int:
    """Take the direct turn, tell what became of it, and count the staged ones that follow."""
    assert turn.take() is Path.DIRECT
    turn.tell(conflicts=conflicts)
    staged = 0
    while turn.take() is Path.STAGED:
        staged += 1
    turn.tell(conflicts=0)
    return staged


def test_batches_go_the_direct_path_as_long_as_it_succeeds() -> None:
    """Without a conflict no batch is staged."""
    turn = DirectCopyBackoff()
    assert [staged_after(turn, conflicts=0) for _ in range(3)] == [0, 0, 0]


def test_each_conflict_in_a_row_doubles_what_is_staged() -> None:
    """1, 2, 4 up to 64 batches; the direct path is tried again after each, and its success begins anew."""
    turn = DirectCopyBackoff()
    staged = []
    for _ in range(8):
        assert turn.take() is Path.DIRECT
        turn.tell(conflicts=3)
        run = 0
        while turn._staged:
            assert turn.take() is Path.STAGED
            run += 1
        staged.append(run)
    assert staged == [1, 2, 4, 8, 16, 32, MOST_STAGED, MOST_STAGED]
    assert staged_after(turn, conflicts=0) == 0
    assert staged_after(turn, conflicts=1) == 1
