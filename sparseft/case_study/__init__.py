"""A case study: what the data says, what a sparsely trained model listens to, and where it sits."""
