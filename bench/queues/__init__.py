"""Job queues that people would otherwise pick, each with a job that does nothing. Their packages are not the project's."""
