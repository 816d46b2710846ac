"""Market ticks: a network that forecasts the next bar, retrained every day."""
