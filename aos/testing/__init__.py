"""The test kit: the network in your own tests, with time and models that you turn by hand."""
