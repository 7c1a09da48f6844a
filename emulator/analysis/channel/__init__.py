"""What links a channel gives: tables and plots."""
