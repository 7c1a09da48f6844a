"""Routing: the gates that choose an expert, and the experts as one stacked adapter."""
