"""One module for each provider or framework whose events tell what was said and done; none imports its SDK."""
