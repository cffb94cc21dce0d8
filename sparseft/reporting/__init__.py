"""What a report is made of; `sparseft.report` puts it together."""
