"""What a run sent, and what it would have sent under other settings."""
