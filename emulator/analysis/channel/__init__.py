"""Tables and plots of the links that a channel gives before anything is sent."""
