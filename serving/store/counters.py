"""Rate limits that hold across processes, one row and one number for each.

The generic cell rate algorithm: every call moves `full_until` on by seconds / most, from now where it lies behind;
a call that would move it further ahead than `seconds` is over the limit and moves nothing.
Source: ITU-T I.371, annex on the GCRA.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import Executable, Float, bindparam, case, select

from serving.store.dialects import insert_for
from serving.store.engine import Store
from serving.store.schema import counters

_FIND = select(counters.c.full_until).where(counters.c.bucket_hmac == bindparam("b_bucket"))


class Counters:
    """The counters of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def hit(self, bucket: str, most: int, seconds: int) -> float | None:
        """Count a call; return the seconds to wait where it is over the limit, None where it may go on.

        Args:
            bucket: who calls what; kept as a keyed hash.
            most: calls at once after a pause; then one every seconds / most.
        """
        key, now, step = self._store.keyed(bucket), self._store.now().timestamp(), seconds / most
        latest = now + seconds - step  # of full_until, for one more call to fit
        with self._store.reading() as con:  # a flood of refused calls must not write
            full_until = con.execute(_FIND, {"b_bucket": key}).scalar()
        if full_until is not None and full_until > latest:
            return full_until - latest
        with self._store.transaction(durable=False) as con:
            counted = con.execute(
                _count(con.dialect.name), {"b_bucket": key, "b_now": now, "b_step": step, "b_latest": latest}
            )
            return None if counted.first() else step  # another process was first


@cache
def _count(dialect: str) -> Executable:
    now, step = (bindparam(name, type_=Float()) for name in ("b_now", "b_step"))
    behind = case((counters.c.full_until > now, counters.c.full_until), else_=now)
    row = insert_for(dialect, counters).values(bucket_hmac=bindparam("b_bucket"), full_until=now + step)
    return row.on_conflict_do_update(
        index_elements=["bucket_hmac"],
        set_={"full_until": behind + step},
        where=counters.c.full_until <= bindparam("b_latest"),
    ).returning(counters.c.full_until)
