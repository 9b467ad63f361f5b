"""The cost of inferences: operating points, the knee of a curve, prices, and the fleet that serves a demand."""
