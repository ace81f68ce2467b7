"""Two more entrances to the same generations, for programs that speak A1111's API or OpenAI's."""
