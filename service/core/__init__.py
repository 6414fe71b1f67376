"""Everything between decoded requests and answers, free of any protocol."""
