"""What is exported here, and read by older versions of the libraries in environments of their own."""
