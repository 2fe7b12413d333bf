"""Workers on Ray: how the cluster is reached, what an actor holds, and which item goes to which worker when."""
