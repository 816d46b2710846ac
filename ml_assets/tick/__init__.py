"""Market ticks: from trades or quotes as they arrive to bars, indicators and windows of them."""
