"""What is injected: where data come from, and where trainings are tracked and registered."""
