"""What tests of several folders need: tiny models and tasks, stand-ins and oracles."""
