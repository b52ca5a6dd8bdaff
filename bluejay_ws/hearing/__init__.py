"""Who was heard when."""
