"""The store of the ledger: tables, queries and migrations. Arithmetic is `journal`'s business."""
