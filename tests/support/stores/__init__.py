"""Object stores on this machine."""
