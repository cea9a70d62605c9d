"""From what is to what should be: one function for each archive, right whenever it is called."""
