"""Market ticks, made into bars, and the return of the next bar, forecast by networks."""
