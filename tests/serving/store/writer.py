"""A process that records and reviews drafts until it is killed, and says each one that was acknowledged.

Run as `python -m tests.serving.store.writer URL NAME [COUNT]`.
"""

from __future__ import annotations

import itertools
import sys

from serving.store.drafts import Drafts
from serving.store.engine import open_store
from serving.store.records import NewDraft, NewReview


def main(url: str, name: str, count: str = "1000000") -> None:
    """Write, and print "DRAFT_ID VERSION" once that version is acknowledged."""
    drafts = Drafts(open_store(url))
    for number in itertools.islice(itertools.count(), int(count)):
        content = {"drugs": [{"item_id": "i1", "drug": "furosemide"}], "filling": "x" * 5000}
        drafts.record(NewDraft(f"{name}-{number}", name, "api", {}, content))
        print(f"{name}-{number} 1", flush=True)
        drafts.review(f"{name}-{number}", NewReview("i1", "accept", name), if_version=1, content=content)
        print(f"{name}-{number} 2", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
