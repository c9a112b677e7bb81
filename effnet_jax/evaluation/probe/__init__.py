"""How far features alone go: a linear probe and nearest neighbours."""
