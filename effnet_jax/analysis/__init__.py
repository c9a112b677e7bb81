"""What a network and its training cost, and why it answers what it does."""
