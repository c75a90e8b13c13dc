"""What serving a layer costs, and what other formats lose."""
