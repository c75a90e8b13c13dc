"""Time and accuracy of scoring layers on MTEB tasks."""
