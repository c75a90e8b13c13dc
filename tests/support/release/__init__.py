"""What `make release-check` looks at: versions, and the files of what is published. See tests/release_check.py."""
