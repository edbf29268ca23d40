"""What dpk-io-formats brings."""

from __future__ import annotations

from dpk_core.hookspecs import hookimpl
from dpk_core.specs import FormatSpec


@hookimpl
def dpk_formats() -> list[FormatSpec]:
    return [
        FormatSpec(
            "deeplabcut",
            "labelled frames of a DeepLabCut project (a folder with config.yaml)",
            "dpk_io_formats.deeplabcut:DeepLabCutFormat",
            reads=("annotations",),
            writes=("annotations",),
        ),
        FormatSpec(
            "deeplabcut-predictions",
            "tables that DeepLabCut's analyze_videos writes",
            "dpk_io_formats.deeplabcut_predictions:DeepLabCutPredictionsFormat",
            reads=("poses",),
            writes=("poses",),
            suffixes=(".dlc.h5", ".dlc.csv"),
        ),
        FormatSpec(
            "lightning-pose",
            "labels (a folder with CollectedData.csv) and predictions of Lightning Pose",
            "dpk_io_formats.lightning_pose:LightningPoseFormat",
            reads=("annotations", "poses"),
            writes=("annotations",),
        ),
        FormatSpec(
            "csv",
            "tidy CSV: a row for each keypoint or track in a frame",
            "dpk_io_formats.tidy_csv:TidyCsvFormat",
            reads=("poses", "tracks"),
            writes=("poses", "tracks"),
            suffixes=(".csv",),
        ),
        FormatSpec(
            "parquet",
            "tidy Parquet: the table of csv, with skeleton and provenance",
            "dpk_io_formats.parquet:ParquetFormat",
            reads=("poses", "tracks"),
            writes=("poses", "tracks"),
            suffixes=(".parquet",),
        ),
        FormatSpec(
            "numpy",
            "plain NumPy arrays in an .npz file",
            "dpk_io_formats.npz:NumpyFormat",
            reads=("poses", "tracks"),
            writes=("poses", "tracks"),
            suffixes=(".npz",),
        ),
        FormatSpec(
            "coco",
            "COCO keypoints: annotations with their images, results of poses",
            "dpk_io_formats.coco:CocoFormat",
            reads=("annotations",),
            writes=("annotations", "poses"),
        ),
        FormatSpec(
            "sleap",
            "SLEAP's labels and predictions (.slp), with embedded images (.pkg.slp)",
            "dpk_io_formats.sleap:SleapFormat",
            reads=("annotations", "poses", "tracks"),
            writes=("annotations", "poses"),
            suffixes=(".slp", ".pkg.slp"),
        ),
        FormatSpec(
            "sleap-analysis",
            "SLEAP's analysis HDF5: an array of all tracks in all frames",
            "dpk_io_formats.sleap_analysis:SleapAnalysisFormat",
            reads=("poses",),
            writes=("poses",),
            suffixes=(".analysis.h5",),
        ),
        FormatSpec(
            "nwb",
            "poses and labels in Neurodata Without Borders files (ndx-pose)",
            "dpk_io_formats.nwb:NwbFormat",
            reads=("poses",),
            writes=("poses", "annotations"),
            suffixes=(".nwb",),
        ),
        FormatSpec(
            "deepposekit",
            "DeepPoseKit's labelled images in an HDF5 file",
            "dpk_io_formats.deepposekit:DeepPoseKitFormat",
            reads=("annotations",),
            writes=("annotations",),
            suffixes=(".h5",),
        ),
        FormatSpec(
            "ultralytics",
            "Ultralytics YOLO pose dataset: a folder with data.yaml, images and text files",
            "dpk_io_formats.ultralytics:UltralyticsFormat",
            reads=("annotations",),
            writes=("annotations",),
        ),
        FormatSpec(
            "movement",
            "poses or boxes of the movement toolbox (netCDF)",
            "dpk_io_formats.movement:MovementFormat",
            reads=("poses", "tracks"),
            writes=("poses", "tracks"),
            suffixes=(".nc",),
            requires=("h5netcdf",),
            install="python -m pip install 'dpk-io-formats[movement]'",
        ),
        FormatSpec(
            "mot",
            "tracks as MOT Challenge text",
            "dpk_io_formats.mot:MotFormat",
            reads=("tracks",),
            writes=("tracks",),
            suffixes=(".txt",),
        ),
        FormatSpec(
            "pinpoint",
            "tracks of pinpoint's 2-D barcodes (HDF5)",
            "dpk_io_formats.pinpoint:PinpointFormat",
            reads=("tracks",),
        ),
        FormatSpec(
            "idtrackerai",
            "trajectories of idtracker.ai (.h5, CSV or Parquet; a session's folder)",
            "dpk_io_formats.idtrackerai:IdtrackeraiFormat",
            reads=("tracks",),
        ),
        FormatSpec(
            "trex",
            "tracks and poses of TRex (.npz, or the folder of all individuals)",
            "dpk_io_formats.trex:TrexFormat",
            reads=("tracks", "poses"),
        ),
        FormatSpec(
            "leap",
            "LEAP's labels (.labels.mat with its box) and training sets (.h5)",
            "dpk_io_formats.leap:LeapFormat",
            reads=("annotations",),
        ),
        FormatSpec(
            "label-studio",
            "keypoints from Label Studio's JSON and JSON-MIN export",
            "dpk_io_formats.label_studio:LabelStudioFormat",
            reads=("annotations",),
        ),
        FormatSpec(
            "cvat",
            "skeletons and points from CVAT's XML, for images and for video",
            "dpk_io_formats.cvat:CvatFormat",
            reads=("annotations",),
        ),
    ]
