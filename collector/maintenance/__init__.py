"""Background steps of a collector: partitions, retention, watermark, ledger, stranded messages."""
