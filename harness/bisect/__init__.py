"""Which commit broke it: a search over commits that bears flaky failures and broken builds."""
