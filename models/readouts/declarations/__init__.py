"""What every readout declares about itself, a small file each; the code lies in other files. No torch here."""
