"""From a sealed call to an accepted report: the spool, the outcome table, and the threads that deliver."""
