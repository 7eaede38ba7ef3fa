"""When this host takes another job: its RAM on the books and in fact, its disk, its pressure."""
