"""Jobs in, events out: accepts jobs, places each on an operator, keeps its record, and has it paid."""
