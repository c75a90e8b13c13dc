"""Work that several processes share, on one machine or on many: who does which part, and who is alive."""
