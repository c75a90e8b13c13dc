"""What keeps an accelerator busy: batches made ahead, copies beside the computation, batches that fit its memory."""
