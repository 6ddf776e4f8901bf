"""CDS Hooks: the cards that were shown, what became of them, and the tokens that were used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, insert, select

from serving.store.audit import Audit
from serving.store.dialects import insert_for
from serving.store.engine import Store
from serving.store.records import NewCard, NewFeedback
from serving.store.schema import cds_cards, cds_feedback, used_tokens


class Cds:
    """The cards, feedback and used tokens of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._audit = Audit(store)

    def add_cards(self, cards: Sequence[NewCard]) -> None:
        """Store the cards of one answer, before it is given."""
        if not cards:
            return
        with self._store.transaction() as con:
            con.execute(insert(cds_cards), [{**asdict(card), "created_at": self._store.now()} for card in cards])
            for card in cards:
                self._audit.append(
                    con,
                    "card.shown",
                    card.client,
                    card.card_id,
                    service_id=card.service_id,
                    rule_ids=sorted(card.rule_ids),
                )

    def add_feedback(self, feedback: Sequence[NewFeedback]) -> tuple[int, int]:
        """Store what became of cards; return how many are stored now or were before, and how many cards are unknown.

        A card that another client was shown, or another service, counts as unknown.
        """
        with self._store.transaction() as con:
            known = [given for given in feedback if self._is_known(con, given)]
            new = [given for given in known if self._insert(con, given)]
            for given in new:
                self._audit.append(
                    con,
                    f"card.{given.outcome}",
                    given.client,
                    given.card_id,
                    service_id=given.service_id,
                    reason_code=given.reason_code,
                )
        return len(known), len(feedback) - len(known)

    def use_jti(self, iss: str, jti: str, expires_at: datetime) -> bool:
        """Use up a token's id; False where it was used before, by any process.

        Args:
            expires_at: when the token cannot be valid any more, leeway included.
        """
        token = self._store.keyed(f"{len(iss)}:{iss}{jti}")
        with self._store.transaction() as con:
            row = insert_for(con.dialect.name, used_tokens).values(token_hmac=token, expires_at=expires_at)
            new = row.on_conflict_do_nothing().returning(used_tokens.c.token_hmac)
            return con.execute(new).first() is not None

    def _is_known(self, con: Connection, given: NewFeedback) -> bool:
        columns = ("card_id", "client", "service_id")
        same = [cds_cards.c[name] == getattr(given, name) for name in columns]
        return con.execute(select(cds_cards.c.card_id).where(*same)).first() is not None

    def _insert(self, con: Connection, given: NewFeedback) -> bool:
        """Insert a row for each accepted suggestion, or one without; True where any was new."""
        values = {
            "card_id": given.card_id,
            "service_id": given.service_id,
            "outcome": given.outcome,
            "outcome_timestamp": given.outcome_timestamp,
            "reason_code": given.reason_code,
            "comment": given.comment,
            "created_at": self._store.now(),
        }
        rows = [values | {"suggestion_id": suggestion} for suggestion in given.suggestion_ids or ("",)]
        new = (
            insert_for(con.dialect.name, cds_feedback)
            .values(rows)
            .on_conflict_do_nothing()
            .returning(cds_feedback.c.card_id)
        )
        return con.execute(new).first() is not None
