using 'main.bicep'

param accountName = 'dicomtables' // 3 to 24 small letters and digits, unique in all of Azure
param dicomWorkspace = 'radiology'
param dicomService = 'archive'
param dicomResourceGroup = 'imaging'
