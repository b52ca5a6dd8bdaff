"""One module for each voice framework; imported only when it is used."""
