"""Renders an invoice out of events in an order of its own; prints the hash of each rendering.

Arguments: a folder for the ledger, and the seed of the order.
"""

import sys
from hashlib import sha256
from pathlib import Path
from random import Random

from fixtures_ledger import book, new_ledger
from invoice_samples import INVOICING, ISSUED_NS, worked_events, worked_terms

from metering.settlement.document_csv import document_csv
from metering.settlement.document_focus import document_focus
from metering.settlement.document_html import document_html
from metering.settlement.document_pdf import document_pdf
from metering.settlement.documents import document_bytes
from metering.settlement.ledger.invoice_books import issue

folder, order = Path(sys.argv[1]), Random(int(sys.argv[2]))
events = worked_events()
events += order.sample(events, 5)
order.shuffle(events)
ledger = new_ledger(folder)
for each in events:
    book(ledger, [each])
found = issue(ledger, "acme", "2026-10", worked_terms(), INVOICING, now_ns=ISSUED_NS)
ledger.close()
assert found is not None
for render in (document_bytes, document_csv, document_focus, document_html, document_pdf):
    print(render.__name__, sha256(render(found.document)).hexdigest())
