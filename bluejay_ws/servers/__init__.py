"""One module for each server family; each knows where that family's frames and ends can be seen."""
