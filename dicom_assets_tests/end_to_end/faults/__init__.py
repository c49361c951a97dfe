"""Each fault of the service that a read must survive, by its number, over real sockets."""
