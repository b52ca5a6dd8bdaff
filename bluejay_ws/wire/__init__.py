"""The wire: the platform's names, the ids of calls, values as JSON, the journal, and the report made of it. Pure."""
