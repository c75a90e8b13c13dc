"""Reading the documentation as a user does: its pages, who reads them, and what stands for the world outside."""
