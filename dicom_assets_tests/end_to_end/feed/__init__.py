"""`feed` against services that tell the truth, lie, stall and break, over real sockets."""
