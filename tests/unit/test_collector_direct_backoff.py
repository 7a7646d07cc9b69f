"""The path that a batch is written by: direct, except for some batches after a conflict."""

from collector.store.batch import WritePath
from collector.store.write import MAX_STAGED_BATCHES, DirectCopyBackoff


def staged_after(backoff: DirectCopyBackoff, *, conflicts: int) -> int:
    """Record the outcome of one direct batch, and return how many staged ones follow."""
    assert backoff.next_path() is WritePath.DIRECT
    backoff.record(conflicts=conflicts)
    staged = 0
    while backoff.next_path() is WritePath.STAGED:
        staged += 1
    backoff.record(conflicts=0)
    return staged


def test_batches_go_the_direct_path_as_long_as_it_succeeds() -> None:
    """Without a conflict no batch is staged."""
    backoff = DirectCopyBackoff()
    assert [staged_after(backoff, conflicts=0) for _ in range(3)] == [0, 0, 0]


def test_each_conflict_in_a_row_doubles_what_is_staged() -> None:
    """1, 2, 4 up to 64 batches; the direct path is tried again after each, and its success begins anew."""
    backoff = DirectCopyBackoff()
    staged = []
    for _ in range(8):
        assert backoff.next_path() is WritePath.DIRECT
        backoff.record(conflicts=3)
        run = 0
        while backoff._staged:
            assert backoff.next_path() is WritePath.STAGED
            run += 1
        staged.append(run)
    assert staged == [1, 2, 4, 8, 16, 32, MAX_STAGED_BATCHES, MAX_STAGED_BATCHES]
    assert staged_after(backoff, conflicts=0) == 0
    assert staged_after(backoff, conflicts=1) == 1
