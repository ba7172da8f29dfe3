"""SA-1B as it is handed out: archives of pictures and their masks, read in place."""
