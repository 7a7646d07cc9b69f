"""What a collector does beside its flow: partitions, retention, watermark, ledger, stranded messages."""
