"""Many runs: their plan, the workers, tables, claims and charts."""
